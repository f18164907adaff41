//! The fictitious case: people, places, dates, numbers. Every person carries FICTIF or FICTIVE in the
//! surname, every place is invented, every telephone number is from the range that the regulator keeps for
//! fiction (06 39 98), every account number starts with a bank code that does not exist: nobody real can be
//! met in a demonstration.

use crate::random::Random;

pub(crate) struct Person {
    pub(crate) title: &'static str,
    pub(crate) first: &'static str,
    pub(crate) last: String,
    pub(crate) born: Date,
    pub(crate) birthplace: &'static str,
    pub(crate) trade: &'static str,
    pub(crate) telephone: String,
    pub(crate) address: String,
}

impl Person {
    /// « M. Aurélien FICTIF-LAMBERT »
    pub(crate) fn full(&self) -> String {
        format!("{} {} {}", self.title, self.first, self.last)
    }

    /// « M. FICTIF-LAMBERT »
    pub(crate) fn short(&self) -> String {
        format!("{} {}", self.title, self.last)
    }

    pub(crate) fn feminine(&self) -> bool {
        self.title == "Mme"
    }

    /// The `e` of agreement: « née », « entendue ».
    pub(crate) fn e(&self) -> &'static str {
        if self.feminine() { "e" } else { "" }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Date {
    pub(crate) day: u32,
    pub(crate) month: u32,
    pub(crate) year: u32,
}

const MONTHS: [&str; 12] = [
    "janvier",
    "février",
    "mars",
    "avril",
    "mai",
    "juin",
    "juillet",
    "août",
    "septembre",
    "octobre",
    "novembre",
    "décembre",
];

impl Date {
    /// « 3 février 2026 », « 1er mars 2026 »
    pub(crate) fn long(self) -> String {
        let ordinal = if self.day == 1 { "er" } else { "" };
        let month = MONTHS[(self.month - 1) as usize];
        format!("{}{ordinal} {month} {}", self.day, self.year)
    }

    /// « 03/02/2026 »
    pub(crate) fn numeric(self) -> String {
        format!("{:02}/{:02}/{}", self.day, self.month, self.year)
    }

    /// `days` later, in months of 28 days: the calendar of a fiction needs no more, and every date exists.
    pub(crate) fn later(self, days: u32) -> Self {
        let total = (self.year * 12 + self.month - 1) * 28 + (self.day - 1) + days;
        Self { day: total % 28 + 1, month: (total / 28) % 12 + 1, year: total / 28 / 12 }
    }
}

pub(crate) struct Case {
    pub(crate) number: String,
    pub(crate) prosecutor_number: String,
    pub(crate) start: Date,
    pub(crate) court: &'static str,
    pub(crate) town: &'static str,
    pub(crate) service: &'static str,
    pub(crate) judge: Person,
    pub(crate) clerk: Person,
    pub(crate) expert: Person,
    pub(crate) investigators: Vec<Person>,
    pub(crate) suspects: Vec<Person>,
    pub(crate) victims: Vec<Person>,
    pub(crate) witnesses: Vec<Person>,
    pub(crate) lawyers: Vec<Person>,
    pub(crate) company: &'static str,
}

const MEN: [&str; 18] = [
    "Aurélien",
    "Benoît",
    "Cédric",
    "Édouard",
    "François",
    "Gaël",
    "Hervé",
    "Idriss",
    "Joël",
    "Kévin",
    "Loïc",
    "Mickaël",
    "Noé",
    "Raphaël",
    "Stéphane",
    "Théo",
    "Yann",
    "Zacharie",
];
const WOMEN: [&str; 18] = [
    "Agnès",
    "Bénédicte",
    "Chloé",
    "Déborah",
    "Éloïse",
    "Flavie",
    "Gaëlle",
    "Hélène",
    "Inès",
    "Joëlle",
    "Léa",
    "Maïté",
    "Noémie",
    "Océane",
    "Raphaëlle",
    "Solène",
    "Thaïs",
    "Zoé",
];
const SURNAMES: [&str; 36] = [
    "ARRANGÉ",
    "BEAUPRÉ",
    "BOISJOLI",
    "CHÂTEAUNEUF",
    "CLAIRVAL",
    "DESFORÊTS",
    "DUPRÉVERT",
    "ÉTANGS",
    "FONTCLAIRE",
    "GRANDCHÊNE",
    "HAUTERIVE",
    "JOLICŒUR",
    "LAMBERT",
    "LECOMTE",
    "LHÔPITAL",
    "MARÉCHAL",
    "MONTBRUN",
    "NOYER",
    "OLIVIER",
    "PERCHERON",
    "PRÉAUX",
    "QUATREMÈRE",
    "ROCHEBRUNE",
    "SAINTONGE",
    "SAULNIER",
    "SÉBASTIEN",
    "TERRIER",
    "TOUSSAINT",
    "TRÉMOLIÈRES",
    "VALMONT",
    "VAUDREUIL",
    "VERDIER",
    "VIGNERON",
    "VILLEDIEU",
    "YVELIN",
    "ZÉPHYR",
];
/// Trades that read the same for a man and a woman.
const TRADES: [&str; 16] = [
    "comptable",
    "fleuriste",
    "libraire",
    "sans profession",
    "juriste d'entreprise",
    "secrétaire",
    "paysagiste",
    "cadre commercial",
    "gestionnaire de paie",
    "fonctionnaire",
    "ébéniste",
    "aide-comptable",
    "garagiste",
    "interprète",
    "standardiste",
    "photographe",
];
pub(crate) const PLACES: [&str; 12] = [
    "Saint-Exemple-sur-Loire",
    "Démonville",
    "L'Haÿ-la-Fictive",
    "Bourg-l'Exemple",
    "Noisy-l'Inventé",
    "Pré-Saint-Modèle",
    "Villeneuve-l'Imaginaire",
    "Châtel-Fictif",
    "Pont-à-l'Épreuve",
    "Œuilly-le-Factice",
    "Mérignac-le-Supposé",
    "Sainte-Hypothèse",
];
const STREETS: [&str; 12] = [
    "rue des Tilleuls",
    "allée de l'Exemple",
    "boulevard de la Démonstration",
    "impasse du Modèle",
    "avenue du Général-Fictif",
    "chemin des Écoliers",
    "place de l'Hôtel-de-Ville",
    "quai de l'Épreuve",
    "rue de l'Église",
    "résidence « Les Bégonias », bâtiment C",
    "sente du Moulin",
    "rue du Faubourg-Imaginaire",
];
const COMPANIES: [&str; 6] = [
    "SARL Négoce Exemple & Fils",
    "SAS Transports Fictifs de l'Ouest",
    "SCI Les Trois Hypothèses",
    "SARL Œuvres et Matériaux (société fictive)",
    "SAS Démo-Énergie Habitat",
    "EURL Garage du Modèle",
];

fn person(random: &mut Random, used: &mut Vec<String>) -> Person {
    let woman = random.percent(45);
    let first = if woman { random.choose(&WOMEN) } else { random.choose(&MEN) };
    let gender = if woman { "FICTIVE" } else { "FICTIF" };
    let mut last = format!("{gender}-{}", random.choose(&SURNAMES));
    while used.contains(&last) {
        last = format!("{gender}-{}", random.choose(&SURNAMES));
    }
    used.push(last.clone());
    let street = random.choose(&STREETS);
    Person {
        title: if woman { "Mme" } else { "M." },
        first,
        last,
        born: Date {
            day: random.between(1, 28) as u32,
            month: random.between(1, 12) as u32,
            year: random.between(1952, 2004) as u32,
        },
        birthplace: random.choose(&PLACES),
        trade: random.choose(&TRADES),
        telephone: telephone(random),
        address: format!("{} {street}, {}", random.between(1, 148), random.choose(&PLACES)),
    }
}

/// A number that nobody can hold (06 39 98 is kept for works of fiction).
pub(crate) fn telephone(random: &mut Random) -> String {
    format!("06 39 98 {:02} {:02}", random.between(0, 99), random.between(0, 99))
}

/// An account number with a bank code and a key that do not exist.
pub(crate) fn account(random: &mut Random) -> String {
    format!(
        "FR00 9999 9000 {:02} {:04} {:04} {:04} 000",
        random.between(0, 99),
        random.between(0, 9999),
        random.between(0, 9999),
        random.between(0, 9999)
    )
}

impl Case {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed).part(1);
        let mut used = Vec::new();
        let mut people =
            |random: &mut Random, count| (0..count).map(|_| person(random, &mut used)).collect::<Vec<_>>();
        let investigators = people(&mut random, 5);
        let suspects = people(&mut random, 4);
        let victims = people(&mut random, 5);
        let witnesses = people(&mut random, 9);
        let lawyers = people(&mut random, 4);
        let judge = person(&mut random, &mut used);
        let clerk = person(&mut random, &mut used);
        let expert = person(&mut random, &mut used);
        Self {
            number: format!("JI-2026-{:05}", random.between(100, 99_999)),
            prosecutor_number: format!("26{:03}000{:03}", random.between(1, 365), random.between(1, 999)),
            start: Date { day: random.between(1, 28) as u32, month: random.between(1, 4) as u32, year: 2026 },
            court: "tribunal judiciaire de Démonville (juridiction fictive)",
            town: "Démonville",
            service: "Service fictif de police judiciaire de Démonville",
            judge,
            clerk,
            expert,
            investigators,
            suspects,
            victims,
            witnesses,
            lawyers,
            company: random.choose(&COMPANIES),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_in_the_case_can_be_taken_for_somebody_real() {
        let case = Case::new(7);
        let all = [&case.investigators, &case.suspects, &case.victims, &case.witnesses, &case.lawyers];
        for person in all.into_iter().flatten().chain([&case.judge, &case.clerk, &case.expert]) {
            assert!(person.last.starts_with("FICTI"), "{}", person.last);
            assert!(person.telephone.starts_with("06 39 98 "));
        }
    }

    #[test]
    fn dates_move_forward_and_exist() {
        let mut date = Date { day: 28, month: 12, year: 2026 };
        for _ in 0..800 {
            let next = date.later(1);
            assert!((next.year, next.month, next.day) > (date.year, date.month, date.day));
            assert!((1..=28).contains(&next.day) && (1..=12).contains(&next.month));
            date = next;
        }
    }
}
