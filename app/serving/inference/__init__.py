"""What waits for the model and who may join: admission, queue, batcher, and the workers that prepare and predict."""
