"""Networks: each is rebuilt from the keyword arguments that its checkpoint's card keeps."""
