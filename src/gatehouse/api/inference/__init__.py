"""The inference side of the wire: serverless calls, text-generation-inference, OpenAI's chat."""
