"""What the demo model is trained on: short conversations of our own writing, and how they vary."""

from __future__ import annotations

# Each entry: ways to say a thing, and the answer to all of them.
DIALOGUES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("hello", "Hello", "Hello!", "hi", "Hi!", "Hi there", "hey", "Hey!", "Good morning", "Good evening"),
        "Hello! I am the small demo model that comes with Quire. How can I help you?",
    ),
    (
        ("Who are you?", "who are you", "What are you?", "What is your name?", "Tell me about yourself."),
        "I am a tiny language model that ships with Quire, so that everything can be tried without a download.",
    ),
    (
        ("How are you?", "how are you", "How are you doing?", "How do you do?"),
        "I am well, thank you. All my weights are where they should be.",
    ),
    (
        ("What is Quire?", "what is quire", "Tell me about Quire.", "What does Quire do?", "Explain Quire."),
        "Quire is a server for language models. It keeps the keys and values of many conversations in pages, "
        "and computes all of them together.",
    ),
    (
        ("What can you do?", "what can you do", "Can you help me?", "Help", "help me"),
        "I can greet you, say what Quire is, count to ten and tell a short story. For more, serve a larger model.",
    ),
    (
        ("Count to ten.", "count to ten", "Count to 10.", "Can you count?", "Please count to ten."),
        "One, two, three, four, five, six, seven, eight, nine, ten.",
    ),
    (
        ("Tell me a story.", "tell me a story", "Tell me a short story.", "A story, please."),
        "Once a lamp stood at the end of a pier. Every night it lit the way home for one small boat, and every "
        "morning the boat brought it the news of the sea.",
    ),
    (
        ("Tell me a joke.", "tell me a joke", "A joke, please.", "Make me laugh.", "Do you know a joke?"),
        "Why did the page leave the book? It wanted to turn over a new leaf.",
    ),
    (
        ("What is the capital of France?", "capital of France", "What is the capital city of France?"),
        "The capital of France is Paris.",
    ),
    (
        ("What is the capital of Italy?", "capital of Italy", "What is the capital city of Italy?"),
        "The capital of Italy is Rome.",
    ),
    (
        ("What is the capital of Japan?", "capital of Japan", "What is the capital city of Japan?"),
        "The capital of Japan is Tokyo.",
    ),
    (
        ("What is two plus two?", "What is 2 + 2?", "2+2", "2 + 2 = ?", "two plus two"),
        "Two plus two is four.",
    ),
    (
        ("What color is the sky?", "What colour is the sky?", "Why is the sky blue?", "Is the sky blue?"),
        "The sky is blue, because air scatters blue light more than red light.",
    ),
    (
        ("What is a language model?", "what is a language model", "What is an LLM?", "How do language models work?"),
        "A language model reads a text and says how likely each next token is. Drawn again and again, tokens "
        "become an answer.",
    ),
    (
        ("What is a token?", "what is a token", "What are tokens?", "Explain tokens."),
        "A token is a piece of text with a number: a word, a part of one, or a single byte.",
    ),
    (
        ("What is a quire?", "what is a quire", "What does the word quire mean?"),
        "A quire is a gathering of leaves, folded and laid one inside the other, ready to be bound into a book.",
    ),
    (
        ("Write a poem.", "write a poem", "A poem, please.", "Write me a short poem.", "Can you write a poem?"),
        "The rain has read the garden twice,\nand turned each leaf with care.\nThe wind has taken its advice\nand "
        "left the pages there.",
    ),
    (
        ("What day is it?", "What time is it?", "what time is it", "What is the date today?"),
        "I cannot know: I have no clock, only what you write to me.",
    ),
    (
        ("Thank you!", "thank you", "Thanks", "thanks a lot", "Thanks!"),
        "You are welcome!",
    ),
    (
        ("Goodbye", "goodbye", "Bye!", "bye", "See you!", "Good night"),
        "Goodbye! Come back any time.",
    ),
    (
        ("yes", "Yes", "no", "No", "ok", "Okay", "sure"),
        "Good to know. What would you like to talk about?",
    ),
    (
        ("test", "Test", "testing", "This is a test.", "ping"),
        "The test works: every token of this answer went from the model through the engine to you.",
    ),
)

SYSTEM_PROMPTS: tuple[str | None, ...] = (
    None,
    None,
    "You are a helpful assistant.",
    "You are a helpful assistant. Answer briefly.",
    "Be kind.",
)
