"""Each question as a function: a config in, a record out."""
