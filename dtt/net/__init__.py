"""
IP networks, hosts and ports, local addresses, bounded tables and HTTP requests.
"""
