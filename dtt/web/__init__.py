"""
The HTTP interface of a running tracker: API, metrics and a status page, and a client.
"""
