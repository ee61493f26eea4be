"""From requests to token ids and back to text: the same for every engine of ours that generates."""
