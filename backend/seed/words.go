package seed

// Where the made-up people come from. The lists are short on purpose: names repeat in large companies, which is what
// searches have to cope with.
var (
	firstNames = []string{
		"Aaliyah", "Aarav", "Abena", "Adam", "Adriana", "Agnieszka", "Ahmed", "Aiko", "Akira", "Alejandro", "Alice", "Amara",
		"Amélie", "Amir", "Ana", "Anders", "Andrea", "Anika", "Anna", "Antoine", "Arjun", "Asha", "Astrid", "Ayşe", "Beatriz",
		"Ben", "Bilal", "Bjørn", "Bruno", "Camila", "Carlos", "Carmen", "Cécile", "Chen", "Chiara", "Chidi", "Chloé", "Daniel",
		"Daria", "David", "Deepa", "Diego", "Dmitri", "Eduardo", "Elena", "Elif", "Emeka", "Emily", "Emma", "Erik", "Esther",
		"Farah", "Fatima", "Felix", "Femi", "Fernanda", "Finn", "Freya", "Gabriel", "Giulia", "Grace", "Gustavo", "Hana",
		"Hannah", "Hassan", "Helena", "Henrik", "Hiroshi", "Hugo", "Ibrahim", "Ines", "Ingrid", "Isaac", "Isabella", "Ivan",
		"Jack", "Jamal", "James", "Jana", "Javier", "Ji-woo", "Jin", "João", "Johanna", "Jonas", "Jorge", "José", "Julia",
		"Kai", "Karim", "Kateryna", "Katarzyna", "Kavya", "Keiko", "Kenji", "Khadija", "Kofi", "Lars", "Laura", "Layla", "Leila",
		"Leon", "Li", "Lina", "Lucas", "Lucía", "Luis", "Łukasz", "Maja", "Malik", "Marco", "Maria", "Marta", "Mateo", "Matthias",
		"Mei", "Michael", "Mila", "Minh", "Mohammed", "Monica", "Nadia", "Naoki", "Natalia", "Nia", "Nikhil", "Nina", "Noah",
		"Noor", "Nuria", "Ola", "Oliver", "Olivia", "Omar", "Oscar", "Pablo", "Paolo", "Patrick", "Paul", "Pedro", "Petra", "Pia",
		"Priya", "Rafael", "Rahul", "Ravi", "Rebecca", "Renée", "Ricardo", "Rosa", "Ryo", "Sakura", "Samira", "Samuel", "Sandra",
		"Sara", "Sebastian", "Selin", "Sergio", "Simone", "Siobhán", "Sofia", "Søren", "Stefan", "Sunita", "Susan", "Tariq",
		"Thabo", "Thomas", "Tomás", "Uma", "Valentina", "Vera", "Victor", "Viktoria", "Wei", "William", "Xin", "Yara", "Yasmin",
		"Youssef", "Yuki", "Yusuf", "Zahra", "Zoë", "Zofia",
	}
	lastNames = []string{
		"Abdi", "Acosta", "Adeyemi", "Ahmad", "Ali", "Almeida", "Andersen", "Andersson", "Bakker", "Banerjee", "Bauer", "Becker",
		"Bennett", "Berg", "Bianchi", "Brown", "Campbell", "Carvalho", "Castillo", "Chaudhary", "Chen", "Clark", "Cohen", "Costa",
		"Cruz", "Dang", "Das", "Davies", "de Jong", "de la Cruz", "Delgado", "Demir", "Diallo", "Díaz", "Dubois", "Edwards",
		"Eriksson", "Evans", "Fernández", "Ferrari", "Fischer", "Flores", "Fournier", "Fujita", "Garcia", "Gill", "Gómez",
		"González", "Gupta", "Haddad", "Hansen", "Haas", "Hassan", "Hernández", "Hill", "Hoffmann", "Horváth", "Hughes", "Ito",
		"Ivanova", "Jackson", "Jansen", "Jensen", "Johansson", "Jones", "Kang", "Kaplan", "Kaur", "Kelly", "Khan", "Kim", "King",
		"Kobayashi", "Koch", "Kovács", "Kowalska", "Kowalski", "Kumar", "Lambert", "Larsen", "Le", "Lee", "Lefebvre", "Lehmann",
		"Lewis", "Li", "Lima", "Lindberg", "Liu", "López", "MacDonald", "Mahmoud", "Martin", "Martínez", "Mbeki", "Mehta",
		"Mendoza", "Meyer", "Mitchell", "Moreau", "Moreno", "Morris", "Müller", "Murphy", "Mwangi", "Nair", "Nakamura", "Ndlovu",
		"Nguyen", "Nielsen", "Novak", "Nowak", "O'Brien", "O'Connor", "Okafor", "Olsen", "Ortiz", "Osei", "Özdemir", "Park",
		"Patel", "Pereira", "Pérez", "Petrov", "Pham", "Phillips", "Popescu", "Rahman", "Ramírez", "Rao", "Reddy", "Reyes",
		"Ricci", "Richter", "Rivera", "Roberts", "Rodríguez", "Romano", "Rossi", "Roux", "Ruiz", "Saito", "Salazar", "Sánchez",
		"Santos", "Sato", "Schmidt", "Schneider", "Schwartz", "Sharma", "Silva", "Simon", "Singh", "Smith", "Sørensen", "Suzuki",
		"Svensson", "Takahashi", "Tan", "Tanaka", "Taylor", "Thompson", "Torres", "Tran", "Turner", "Usman", "van den Berg",
		"Vargas", "Vasquez", "Virtanen", "Vogel", "Walker", "Wang", "Watanabe", "Weber", "White", "Williams", "Wilson", "Wong",
		"Wright", "Wu", "Yamamoto", "Yang", "Yılmaz", "Young", "Zhang", "Zhao", "Zimmermann",
	}
	levels = []string{"", "", "", "Senior ", "Senior ", "Staff ", "Principal ", "Lead ", "Junior "}
	jobs   = []string{"Software Engineer", "Site Reliability Engineer", "Product Manager", "Product Designer", "Data Scientist", "Data Engineer", "Account Executive", "Customer Success Manager", "Support Specialist", "Recruiter", "People Partner", "Financial Analyst", "Legal Counsel", "Security Engineer", "QA Engineer", "Engineering Manager", "Marketing Manager", "Content Strategist", "Solutions Architect", "Operations Analyst", "Office Manager", "Technical Writer"}
	teams  = []string{"Payments", "Search", "Growth", "Platform", "Infrastructure", "Mobile", "EMEA", "APAC", "Americas", "Identity", "Billing", "Messaging", "Trust", "Analytics", "Partnerships"}
	status = []struct{ emoji, text string }{{":house_with_garden:", "Working remotely"}, {":calendar:", "In a meeting"}, {":palm_tree:", "On holiday"}, {":face_with_thermometer:", "Out sick"}, {":bus:", "Commuting"}, {":headphones:", "Focus time"}, {":coffee:", ""}}
	zones  = []struct {
		name, label string
		offset      int
	}{
		{"America/Los_Angeles", "Pacific Standard Time", -28800}, {"America/New_York", "Eastern Standard Time", -18000},
		{"America/Sao_Paulo", "Brasilia Standard Time", -10800}, {"Europe/London", "Greenwich Mean Time", 0},
		{"Europe/Berlin", "Central European Time", 3600}, {"Africa/Lagos", "West Africa Time", 3600},
		{"Europe/Helsinki", "Eastern European Time", 7200}, {"Asia/Kolkata", "India Standard Time", 19800},
		{"Asia/Singapore", "Singapore Standard Time", 28800}, {"Asia/Tokyo", "Japan Standard Time", 32400},
		{"Australia/Sydney", "Australian Eastern Standard Time", 36000},
	}
	colors    = []string{"9f69e7", "4bbe2e", "e7392d", "3c989f", "674b1b", "e96699", "e0a729", "684b6c", "5b89d5", "2b6836", "99a949", "df3dc0", "4cc091", "9b3b45", "d58247", "a63024"}
	companies = []string{"Acme", "Globex", "Initech", "Umbra", "Hooli", "Vandelay", "Wonka", "Stark", "Tyrell", "Cyberdyne", "Aperture", "Soylent"}
	areas     = []string{"proj", "team", "help", "announce", "ops", "dev", "design", "sales", "mktg", "fin", "hr", "it", "data", "sec", "social", "region", "cust", "alerts", "incident", "feat"}
	subjects  = []string{"apollo", "atlas", "aurora", "badger", "bamboo", "beacon", "borealis", "canyon", "cascade", "cedar", "checkout", "comet", "compass", "condor", "coral", "crater", "delta", "dune", "echo", "ember", "falcon", "fjord", "galaxy", "garnet", "glacier", "granite", "harbor", "hazel", "horizon", "ibis", "indigo", "island", "jade", "juniper", "kestrel", "lagoon", "lantern", "lotus", "lunar", "maple", "marble", "meadow", "mercury", "meteor", "mosaic", "nebula", "nimbus", "oasis", "onyx", "orchid", "osprey", "otter", "pebble", "phoenix", "pine", "prairie", "quartz", "quill", "raven", "reef", "ridge", "river", "saffron", "sage", "sierra", "sparrow", "summit", "sunset", "tango", "thistle", "thunder", "tidal", "topaz", "tundra", "umber", "valley", "velvet", "violet", "walnut", "willow", "zephyr", "zinnia"}
	aspects   = []string{"launch", "planning", "bugs", "oncall", "reviews", "standup", "random", "weekly", "metrics", "rollout", "migration", "feedback", "hiring", "q1", "q2", "q3", "q4", "2025", "2026", "support", "backend", "frontend", "mobile", "research"}
	purposes  = []string{"Plan and ship %s.", "Everything about %s.", "Questions about %s, answered by whoever knows.", "Daily notes of the %s team.", "Where %s decisions are made and written down.", ""}
	topics    = []string{"", "", "", "Next milestone: %s beta", "On call: see the %s rota", "Read the pinned notes on %s first"}
	sentences = []string{
		"Morning all, anything blocking you today?", "I pushed a fix for the flaky test, please have a look.", "The dashboard shows a spike at 10:40, does anybody know why?",
		"Can we move the review to Thursday?", "Shipped! Thanks everybody who helped.", "Here are the notes from yesterday's meeting.",
		"Does anyone have the link to the design document?", "I will be out tomorrow afternoon.", "The customer confirmed that it works for them now.",
		"Let's not forget the retrospective on Friday.", "I think we should roll this back and try again on Monday.", "Nice work on the release notes!",
		"Who is on call this week?", "The numbers look much better than last month.", "Reminder: expenses are due by the end of the week.",
		"I left a few comments, nothing that blocks.", "We have a candidate coming in at two.", "Coffee, anyone?",
	}
	emojiNames = []string{"party", "shipit", "lgtm", "thinking", "facepalm", "rocket", "parrot", "blob", "cat", "dog", "wave", "nope", "yep", "fire", "llama", "deal", "done", "wip", "bug", "fix"}
	botNames   = []string{"deploybot", "calendar", "alertmanager", "standup", "giphy", "github", "jira", "pagerduty", "zoom", "polly", "trello", "docs"}
)
