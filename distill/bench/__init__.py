"""What training costs, measured against the field's own loop in the same process; no figure without its gate.

`peer` is that loop, written from its recipe. `rows` are pieces of work, `gates` the equalities behind their figures,
`course` goes through both.
"""
