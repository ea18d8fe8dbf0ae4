"""
A node of the BitTorrent Mainline DHT.
"""
