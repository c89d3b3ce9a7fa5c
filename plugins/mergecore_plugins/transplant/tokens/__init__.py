"""Which token of one tokenizer is which of another; read `counterparts` first."""
