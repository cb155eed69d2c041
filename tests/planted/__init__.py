"""Bugs that are planted on purpose: each a patch, applied to a copy of the tree, that the schedules must find.

    .venv/bin/python -m tests.planted [NAME …]   try them, all without a name; --write: note it in docs/planted-bugs.md

The first lines of a patch say what it breaks. A patch that no longer applies is an error: mend it with the code.
"""
