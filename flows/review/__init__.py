"""`ipa review`: a local page on which a person accepts and rejects the candidates of a run.

`queue.py`: the candidates, nearest to the threshold first. `session.py`: their reviews. `filters.py`: a choice of them.
`agreement.py`: how far reviewers agree. `pictures.py`: enlarged hands, made once. `app.py`: the page's server, with
`page.js` (one candidate, decisions), `list.js` and `player.js`. `exchange.py`: reviews as files, `label_studio.py`
its tasks and exports.
"""
