"""What a run shall not keep: noise while it learns, and forgetting afterwards."""
