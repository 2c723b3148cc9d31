"""Which nodules are worth a reader's time: scores of nodules, and choices made with them.

`scores` says how much each nodule would teach, `selection` picks some of many; neither knows
where predictions and embeddings come from.
"""
