"""
Simulations of whole members in virtual time: scenarios, attackers, and reports.

C{python -m dtt.testing.simulate SCENARIO} runs one (docs/how-to/simulate.md).
"""
