"""Renderers: one module per format, from a document (or, for JSON, from the record) to output."""
