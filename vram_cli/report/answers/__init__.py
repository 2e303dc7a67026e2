"""One module per command: its record as a document. Pure: no Rich, no HTML, no device."""
