"""
The tracker: topics, and the services that fetch and publish records and merge
bubbles.
"""
