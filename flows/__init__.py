"""What Prefect runs: each file is one flow, and names its steps in order."""
