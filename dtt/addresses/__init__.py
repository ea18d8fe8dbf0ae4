"""
From a peer id to addresses: signed packets, where they are stored, and the address book.
"""
