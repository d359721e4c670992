"""The catalogue in numbers: what a row costs, how fast it is, what every family learns side by
side.
"""
