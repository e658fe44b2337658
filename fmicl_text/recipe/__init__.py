"""The recipe: its schema, its YAML file with errors by line, and the files it imports.

:mod:`.schema` joins the sections that ``losses``, ``data``, ``encoders`` and ``evaluation`` declare; :mod:`.file` reads
and writes recipes, :mod:`.new` proposes one for a user's data, :mod:`.build` makes the loss of one. Modules here import
those four folders, ``core`` and the modules at the root; reading a recipe imports no torch.
"""
