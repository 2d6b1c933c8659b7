"""Sentinel, the light mode: what a batch should take given its workload, and when it takes longer."""
