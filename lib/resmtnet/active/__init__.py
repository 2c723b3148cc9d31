"""Active learning: which study a reader should read next.

`scores` and `information` say how much a reading of each nodule would teach, `selection` picks some
of many, `choice` picks a study; `background_scoring`, `study_scores` and `leases` keep the state of
a site; `simulation` compares strategies on an archive. No server is needed for any of them.
"""
