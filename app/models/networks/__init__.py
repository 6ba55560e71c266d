"""Networks: each is rebuilt from the keyword arguments in its checkpoint's card."""
