"""
IP networks, hosts and ports, this machine's addresses, bounded tables and requests.
"""
