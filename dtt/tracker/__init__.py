"""
The tracker: topics and their services, which fetch, publish and merge.
"""
