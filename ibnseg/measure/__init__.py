"""From predictions to numbers that can be compared.

protocols (how a domain is measured) -> predict -> confusion and metric -> matrices (of each image)
-> records (the result on disk) -> bootstrap (how certain it is). `selection` says which checkpoint
is reported, `predictions` keeps predictions as files. `metric` and `predict` need torch and the MM
packages, the others numpy alone.
"""
