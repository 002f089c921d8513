"""`ipa review`: a local page on which a person accepts and rejects the candidates of a run.

`queue.py`: the candidates, nearest to the threshold first. `session.py`: their reviews. `pictures.py`: enlarged hands,
made once. `app.py`: the page's server. `exchange.py`: Label Studio and CSV.
"""
