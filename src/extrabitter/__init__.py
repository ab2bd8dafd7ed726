"""Why some base models choke on RL: the instruments behind the book."""
