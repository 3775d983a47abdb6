"""Reading what is checked: blocks, the tree and the log's changes of it, and what is found."""
