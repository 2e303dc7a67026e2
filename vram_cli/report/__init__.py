"""How results look: the answer on stdout, progress and errors on stderr, and the JSON that is saved and drawn again."""
