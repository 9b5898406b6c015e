"""Simulated traffic: fleets of service pairs with a known law, known faults and known onsets.

`streams` draws many streams of one kind at the cost of their random numbers, for proofs;
`fleet` whole service pairs whose signals fit together; `calibrate` fits those to a recording.
"""
