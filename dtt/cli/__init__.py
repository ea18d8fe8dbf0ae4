"""
The commands of C{dtt}, one module each.
"""
