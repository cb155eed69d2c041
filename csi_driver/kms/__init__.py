"""Who keeps the data keys of encrypted volumes: the seam (api.py), its kinds, and the file that names them."""
