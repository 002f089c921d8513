"""`ipa review`: a local page on which a person accepts and rejects the candidates of a run.

`queue.py`: which candidates there are, nearest to the threshold first. `session.py`: what is decided about them.
`pictures.py`: hands enlarged, made once. `app.py`: the page's server. `exchange.py`: Label Studio and CSV.
"""
