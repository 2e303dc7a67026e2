"""Several ranks on devices of this machine or others: a worker each, and one answer of all of them."""
