"""What an answer holds, as JSON and as tables; a crystal composed from the predictions of its hops."""
