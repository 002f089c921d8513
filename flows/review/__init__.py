"""`ipa review`: a local page on which a person accepts and rejects the candidates of a run, and another for blind
comparisons of base and aligned videos.

`queue.py`: the candidates, nearest to the threshold first. `session.py`: their reviews. `filters.py`: a choice of them.
`server.py`, `dom.js` and `player.js`: all that both pages share. `compare.py`, `compare_app.py`: the blind comparison.
`agreement.py`: how far reviewers agree. `pictures.py`: enlarged hands, made once. `app.py`: the page's server, with
`page.js` (one candidate, decisions), `list.js` and `player.js`. `exchange.py`: reviews as files, `label_studio.py`
its tasks and exports.
"""
