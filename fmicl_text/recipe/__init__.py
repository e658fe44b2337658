"""The recipe: its schema, its file, and what is wrong with it in words."""
