"""What people look at: exports of a run."""
