"""The guided run of `rbd-csi demo`: a volume's life through the real socket of a real driver.

place.py is its directory, driver.py the process, client.py the socket, volume.py one volume as an orchestrator sees it,
guide.py the run itself. Nothing of it is part of the driver: `serve` never imports this package.
"""
