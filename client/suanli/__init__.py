"""The consumer: jobs, submission, results, audit."""
