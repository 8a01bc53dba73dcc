"""The models that come from elsewhere: their weights, interpreters and licences, and what this machine can run."""
