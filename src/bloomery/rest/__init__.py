"""HTTP as every gateway of ours speaks it: one request at a time, and what to do when one fails."""
