"""The training in processes of its own: the job, the flow's side that launches it, the training's side."""
