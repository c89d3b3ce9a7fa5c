"""A merged model beside what it was made of: `tracing` goes through the weights, `page` tells what it found."""
