"""Accounting: storages, and the modules and categories that they belong to."""
