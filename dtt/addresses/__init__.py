"""
Resolution of peer ids to addresses: signed packets, their stores, and the address
book.
"""
