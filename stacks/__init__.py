"""What Codeferry deploys: storage, SSM documents, and the workflow with its Lambdas."""
