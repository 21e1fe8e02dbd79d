"""The HTTP service: REST and JSON under `/v1`, events as they happen, and the page that shows them."""
