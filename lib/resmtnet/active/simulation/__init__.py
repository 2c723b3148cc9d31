"""What choosing whom to label is worth: pool simulation on an archive whose labels are known.

`pool` holds nodules that a trunk never saw, `heads` are fitted on those that count as labelled,
`strategies` choose the next ones, `rounds` plays it, `summary` and `report` tell.
"""
