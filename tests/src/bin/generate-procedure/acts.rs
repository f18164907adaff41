//! The wording of each kind of act: procès-verbaux, hearings, telephone and bank listings, orders, letters.
//! Sentences are drawn so that no two acts read alike; none describes a real matter.

use crate::case::{Case, Date, PLACES, Person, account, telephone};
use crate::paper::{Face, Marks, Paper, Sheet};
use crate::random::Random;
use crate::scan;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Referral,
    Findings,
    Witness,
    Victim,
    Custody,
    Search,
    Telephone,
    Bank,
    Requisition,
    Confrontation,
    FirstAppearance,
    ExpertOrder,
    ExpertReport,
    Personality,
    Supervision,
    Letter,
    Scanned,
}

/// One piece of the file: where it goes, what it is, whom it concerns.
pub(crate) struct Piece {
    pub(crate) folder: String,
    pub(crate) cote: String,
    pub(crate) kind: Kind,
    pub(crate) who: usize,
    pub(crate) date: Date,
}

struct Act<'a> {
    case: &'a Case,
    random: Random,
    date: Date,
    who: usize,
    canary: &'a str,
}

impl Kind {
    /// What the file is called, after its cote.
    pub(crate) fn title(self, case: &Case, who: usize) -> String {
        let (suspect, victim) = (pick(&case.suspects, who), pick(&case.victims, who));
        let witness = pick(&case.witnesses, who);
        match self {
            Self::Referral => "Réquisitoire introductif".to_owned(),
            Self::Findings => "Procès-verbal de transport, constatations et mesures prises".to_owned(),
            Self::Witness => format!("Procès-verbal d'audition de témoin – {}", witness.short()),
            Self::Victim => format!("Plainte et audition – {}", victim.short()),
            Self::Custody => format!("Audition en garde à vue – {}", suspect.short()),
            Self::Search => format!("Perquisition et saisie au domicile de {}", suspect.short()),
            Self::Telephone => format!("Exploitation de la téléphonie – ligne de {}", suspect.short()),
            Self::Bank => format!(
                "Relevés bancaires – {}",
                if who.is_multiple_of(2) { suspect.short() } else { "société".to_owned() }
            ),
            Self::Requisition => "Réquisition à opérateur et réponse".to_owned(),
            Self::Confrontation => format!("Confrontation – {} et {}", suspect.short(), victim.short()),
            Self::FirstAppearance => format!("Interrogatoire de première comparution – {}", suspect.short()),
            Self::ExpertOrder => "Ordonnance de commission d'expert (art. 156 CPP)".to_owned(),
            Self::ExpertReport => "Rapport d'étape de l'expert informatique".to_owned(),
            Self::Personality => format!("Enquête de personnalité – {}", suspect.short()),
            Self::Supervision => format!("Ordonnance de contrôle judiciaire – {}", suspect.short()),
            Self::Letter => format!("Lettre de Me {}", pick(&case.lawyers, who).last),
            Self::Scanned => {
                let kinds = [
                    "Pièce numérisée – attestation",
                    "Pièce numérisée – main courante",
                    "Pièce numérisée – bordereau d'envoi",
                    "Pièce numérisée – certificat",
                    "Pièce numérisée – facture et reçu",
                ];
                format!("{} ({})", kinds[who % kinds.len()], witness.last)
            }
        }
    }
}

fn pick(people: &[Person], who: usize) -> &Person {
    &people[who % people.len()]
}

/// Writes one piece: its pages, and what they say of themselves.
pub(crate) fn write(case: &Case, piece: &Piece, random: Random, canary: &str) -> (Vec<Sheet>, Marks) {
    let mut act = Act { case, random, date: piece.date, who: piece.who, canary };
    let marks = Marks {
        title: format!("{} {} (document fictif)", piece.cote, piece.kind.title(case, piece.who)),
        author: case.service.to_owned(),
        cote: piece.cote.clone(),
        date: piece.date,
        canary: canary.to_owned(),
    };
    if piece.kind == Kind::Scanned {
        let paragraphs = act.scanned(&piece.cote);
        return (scan::pages(&paragraphs, &mut act.random), marks);
    }
    let mut paper = match piece.kind {
        Kind::Custody | Kind::Witness | Kind::Confrontation => Paper::new(Face::Typewriter, 10.0),
        _ => Paper::new(Face::Roman, 11.0),
    };
    match piece.kind {
        Kind::Referral => act.referral(&mut paper),
        Kind::Findings => act.findings(&mut paper),
        Kind::Witness => act.hearing(&mut paper, pick(&case.witnesses, piece.who), "de témoin"),
        Kind::Victim => act.hearing(&mut paper, pick(&case.victims, piece.who), "de plaignant"),
        Kind::Custody => act.custody(&mut paper),
        Kind::Search => act.search(&mut paper),
        Kind::Telephone => act.telephone(&mut paper),
        Kind::Bank => act.bank(&mut paper),
        Kind::Requisition => act.requisition(&mut paper),
        Kind::Confrontation => act.confrontation(&mut paper),
        Kind::FirstAppearance => act.first_appearance(&mut paper),
        Kind::ExpertOrder => act.expert_order(&mut paper),
        Kind::ExpertReport => act.expert_report(&mut paper),
        Kind::Personality => act.personality(&mut paper),
        Kind::Supervision => act.supervision(&mut paper),
        Kind::Letter => act.letter(&mut paper),
        Kind::Scanned => {}
    }
    (paper.finish(&marks), marks)
}

const OPENING: [&str; 6] = [
    "Constatons que les lieux sont éclairés et que la porte d'entrée ne présente aucune trace d'effraction.",
    "Procédons aux constatations suivantes, en présence constante des personnes désignées plus haut.",
    "Relevons que la façade donne sur la rue et que l'accès se fait par un couloir commun, sans gardien.",
    "Notons que le système de vidéoprotection de l'immeuble est en état de marche et conserve les images trente jours.",
    "Recueillons les déclarations spontanées d'un voisin, qui déclare n'avoir rien remarqué d'inhabituel.",
    "Faisons prendre par le technicien une série de clichés, versés en annexe sous forme d'album photographique.",
];
const FACTS: [&str; 22] = [
    "Une camionnette blanche a stationné devant l'entrepôt entre vingt-deux heures et minuit, feux éteints.",
    "Le règlement devait intervenir par virement, mais le compte communiqué n'était pas celui du fournisseur habituel.",
    "La facture produite porte un numéro de SIRET qui ne correspond à aucune société immatriculée.",
    "L'adresse de courrier électronique de l'expéditeur ne différait de la vraie que par une seule lettre.",
    "Le disque dur externe retrouvé dans le tiroir du bureau contenait la copie de la comptabilité.",
    "Les clés du local étaient conservées dans une boîte dont quatre personnes connaissaient le code.",
    "Il a été remis une somme en espèces, sans reçu, au cours d'un déjeuner pris près de la gare.",
    "Le contrat aurait été signé à une date à laquelle le gérant se trouvait à l'hôpital.",
    "Plusieurs bons de livraison portent une signature que la personne désignée ne reconnaît pas.",
    "La boîte vocale a été consultée depuis un poste situé à l'étranger dans la nuit du samedi au dimanche.",
    "Les échanges évoquent « le dossier vert », sans que ce terme ait pu être expliqué.",
    "Le véhicule a été restitué avec quatre cent douze kilomètres de plus que ne l'indique le carnet.",
    "Aucun stock ne correspondait aux quantités portées sur l'état présenté à la banque.",
    "La caméra du parking montre deux silhouettes chargeant des cartons, sans que les visages soient visibles.",
    "Le téléphone a été réinitialisé la veille de l'intervention, à vingt-trois heures quarante.",
    "Une première alerte avait été donnée par l'expert-comptable dès le mois de novembre.",
    "Le devis initial a été multiplié par trois, sans avenant ni nouvelle commande.",
    "Les mots de passe étaient notés sur une feuille fixée sous le clavier.",
    "Les chèques se suivaient et avaient été tirés d'un carnet déclaré perdu.",
    "Un second contrat, antidaté, a été découvert dans la corbeille de l'ordinateur.",
    "La somme a transité par trois comptes en moins de quarante-huit heures.",
    "Le salarié chargé de la caisse était en congé le jour où l'écriture a été passée.",
];
const QUESTIONS: [&str; 16] = [
    "Dans quelles circonstances avez-vous connu les personnes dont les noms viennent de vous être cités ?",
    "Pouvez-vous préciser votre emploi du temps de la soirée en cause ?",
    "Reconnaissez-vous l'écriture portée sur le document placé sous scellé que nous vous présentons ?",
    "Comment expliquez-vous les mouvements relevés sur ce compte ?",
    "Qui, à votre connaissance, disposait des codes d'accès ?",
    "Avez-vous reçu une rémunération, sous quelque forme que ce soit ?",
    "Vous êtes-vous entretenu avec une autre personne de la présente enquête ?",
    "Cette photographie vous évoque-t-elle quelque chose ?",
    "À quelle date avez-vous pris connaissance de l'existence du second contrat ?",
    "Êtes-vous l'utilisateur de la ligne téléphonique qui figure au tableau annexé ?",
    "Pourquoi ne pas avoir signalé ces faits plus tôt ?",
    "Quelle était précisément votre fonction au sein de la société ?",
    "Qui vous a remis ce véhicule, et contre quoi ?",
    "Souhaitez-vous consulter de nouveau le document avant de répondre ?",
    "Que pouvez-vous dire du courrier reçu le lendemain ?",
    "Maintenez-vous vos déclarations antérieures sur ce point ?",
];
const ANSWERS: [&str; 22] = [
    "Je l'ai rencontré à l'occasion d'un déménagement, il y a environ trois ans. Nous n'étions pas amis.",
    "J'étais chez moi. Mon fils peut le confirmer, nous avons regardé un film jusqu'à vingt-trois heures passées.",
    "Oui, c'est bien mon écriture pour la première page. La suite n'est pas de moi.",
    "Je ne me l'explique pas. Je ne consulte ce compte qu'une fois par mois.",
    "À ma connaissance, quatre personnes, dont moi. Le code n'a pas été changé depuis les travaux.",
    "Non, jamais. J'ai seulement été remboursé de mes frais d'essence.",
    "Je préfère ne pas répondre à cette question.",
    "Je reconnais l'immeuble, mais pas la personne qui se trouve devant.",
    "Je l'ai appris par hasard, en cherchant une facture d'électricité.",
    "C'était mon numéro, mais j'ai prêté ce téléphone pendant l'été.",
    "J'avais peur de perdre mon emploi. Je me suis d'abord confié à ma sœur.",
    "Je tenais le standard et j'ouvrais le courrier. Je ne signais rien.",
    "Il m'a été prêté pour la semaine. Je devais le rendre avec le plein.",
    "Oui, je souhaite le relire… Je confirme, ce n'est pas le document que j'ai signé.",
    "Il n'y avait pas d'en-tête. J'ai trouvé cela étrange, et je l'ai gardé.",
    "Je les maintiens, sauf en ce qui concerne l'heure : il était plus tard que je ne l'avais dit.",
    "Je ne m'en souviens plus, cela fait longtemps.",
    "On m'a demandé de ne pas poser de questions. J'ai obéi, et je le regrette.",
    "C'est inexact. J'ai proposé à deux reprises de rendre la somme.",
    "Le gérant m'appelait le soir, toujours d'un numéro masqué.",
    "Je n'ai fait que transporter les cartons. Je n'en connaissais pas le contenu.",
    "Vous pouvez vérifier auprès de la société de location, tout est écrit.",
];
const OBJECTS: [&str; 18] = [
    "un téléphone portable noir, écran fendu, code non communiqué",
    "un ordinateur portable gris, sans chargeur",
    "un disque dur externe de deux téraoctets",
    "une clé de mémoire USB bleue portant une étiquette « compta »",
    "un lot de onze factures et bons de livraison",
    "un carnet à spirale manuscrit, quarante-deux feuillets",
    "une enveloppe contenant des espèces, comptées contradictoirement",
    "un cachet encreur au nom de la société",
    "trois cartes de téléphonie prépayée sous blister",
    "un trousseau de cinq clés avec badge magnétique",
    "une tablette tactile, dos rayé",
    "un agenda de l'année précédente",
    "un chéquier entamé, neuf formules restantes",
    "un enregistreur de vidéoprotection",
    "un lot de correspondances, dont trois recommandés",
    "deux plaques d'immatriculation ne correspondant à aucun véhicule présent",
    "un routeur domestique et son bloc d'alimentation",
    "une montre dans son étui, sans certificat",
];

impl Act<'_> {
    fn officer(&mut self) -> &Person {
        let index = self.random.next() as usize;
        pick(&self.case.investigators, index)
    }

    fn hour(&mut self) -> String {
        format!("{} heures {:02}", self.random.between(7, 21), self.random.between(0, 11) * 5)
    }

    fn fact(&mut self) -> &'static str {
        self.random.choose(&FACTS)
    }

    /// `count` different facts in one paragraph.
    fn facts(&mut self, count: usize) -> String {
        let mut chosen: Vec<&str> = Vec::new();
        while chosen.len() < count.min(FACTS.len()) {
            let fact = self.fact();
            if !chosen.contains(&fact) {
                chosen.push(fact);
            }
        }
        chosen.join(" ")
    }

    fn police_head(&mut self, paper: &mut Paper, object: &str) {
        let (date, hour) = (self.date.long(), self.hour());
        let officer = self.officer().full();
        paper.line("RÉPUBLIQUE FRANÇAISE – MINISTÈRE FICTIF DE L'INTÉRIEUR", Face::Bold, 9.5);
        paper.line(self.case.service, Face::Roman, 9.5);
        paper.line(
            &format!(
                "Procédure n° {} – dossier d'instruction n° {}",
                self.case.prosecutor_number, self.case.number
            ),
            Face::Roman,
            9.5,
        );
        paper.space(12.0);
        paper.centred("PROCÈS-VERBAL", Face::Bold, 15.0);
        paper.centred(object, Face::Bold, 11.5);
        paper.space(10.0);
        paper.paragraph(&format!(
            "Le {date}, à {hour}, nous, {officer}, officier de police judiciaire en résidence à {}, agissant en \
             exécution de la commission rogatoire délivrée par {}, vice-président{} chargé{} de l'instruction au {}, \
             vu les articles 81, 151 et suivants du code de procédure pénale, rapportons les opérations suivantes.",
            self.case.town, self.case.judge.full(), self.case.judge.e(), self.case.judge.e(), self.case.court
        ));
    }

    fn court_head(&mut self, paper: &mut Paper, object: &str) {
        paper.line("COUR D'APPEL FICTIVE DE L'OUEST", Face::Bold, 10.0);
        paper.line(&self.case.court.to_uppercase(), Face::Bold, 10.0);
        paper.line(&format!("Cabinet de {}", self.case.judge.full()), Face::Roman, 10.0);
        paper.line(&format!("N° du parquet : {}", self.case.prosecutor_number), Face::Roman, 10.0);
        paper.line(&format!("N° de l'instruction : {}", self.case.number), Face::Roman, 10.0);
        paper.space(14.0);
        paper.centred(object, Face::Bold, 14.0);
        paper.space(12.0);
    }

    fn close(&mut self, paper: &mut Paper, others: &[String]) {
        let hour = self.hour();
        paper.paragraph(&format!(
            "Dont procès-verbal, clos le {} à {hour}, que nous signons avec les personnes présentes après lecture faite \
             par elles-mêmes, sans observation ni rature.",
            self.date.long()
        ));
        if !self.canary.is_empty() && self.random.percent(50) {
            paper.paragraph(&format!("Mention de service : {}.", self.canary));
        }
        let mut names = vec![self.officer().short()];
        names.extend_from_slice(others);
        paper.signatures(&mut self.random, &names);
    }

    fn identity(&self, paper: &mut Paper, person: &Person) {
        let e = person.e();
        paper.paragraph(&format!(
            "{}, né{e} le {} à {}, de nationalité française, profession : {}, demeurant {}, joignable au {}.",
            person.full(),
            person.born.long(),
            person.birthplace,
            person.trade,
            person.address,
            person.telephone
        ));
    }

    fn dialogue(&mut self, paper: &mut Paper, exchanges: u64) {
        for _ in 0..exchanges {
            let question = self.random.choose(&QUESTIONS);
            let mut answer = self.random.choose(&ANSWERS).to_owned();
            if self.random.percent(60) {
                let more = self.random.choose(&ANSWERS);
                if more != answer {
                    answer = format!("{answer} {more}");
                }
            }
            if self.random.percent(25) {
                answer = format!("{answer} {}", self.fact());
            }
            paper.indented(&format!("QUESTION : {question}"), 0.0, paper.body);
            paper.indented(&format!("RÉPONSE : {answer}"), 18.0, paper.body);
        }
    }

    fn referral(&mut self, paper: &mut Paper) {
        self.court_head(paper, "RÉQUISITOIRE INTRODUCTIF");
        paper.paragraph(&format!(
            "Le procureur de la République près le {}, vu les pièces jointes, vu les articles 80, 82 et 83 du code de \
             procédure pénale, attendu qu'il en résulte des indices graves ou concordants rendant vraisemblable la \
             participation des personnes ci-après désignées aux faits d'escroquerie en bande organisée, de faux et usage \
             de faux, d'abus de biens sociaux et de blanchiment, commis à {} et sur l'ensemble du territoire national, \
             depuis temps non couvert par la prescription.",
            self.case.court, self.random.choose(&PLACES)
        ));
        for suspect in &self.case.suspects {
            self.identity(paper, suspect);
        }
        for _ in 0..self.random.between(3, 6) {
            let text = self.facts(4);
            paper.paragraph(&text);
        }
        paper.paragraph("Requiert qu'il plaise au juge d'instruction désigné informer par toutes voies de droit, décerner mandat de comparution et faire rapport.");
        paper.signatures(&mut self.random, &["Le procureur de la République".to_owned()]);
    }

    fn findings(&mut self, paper: &mut Paper) {
        self.police_head(paper, "Transport, constatations et mesures prises");
        for section in [
            "Transport sur les lieux",
            "Constatations extérieures",
            "Constatations intérieures",
            "Voisinage",
            "Mesures prises",
        ] {
            paper.heading(section);
            for _ in 0..self.random.between(1, 4) {
                let text = format!("{} {}", self.random.choose(&OPENING), self.facts(3));
                paper.paragraph(&text);
            }
        }
        self.close(paper, &[]);
    }

    fn hearing(&mut self, paper: &mut Paper, person: &Person, quality: &str) {
        self.police_head(paper, &format!("Audition {quality} : {}", person.full()));
        paper.heading("Identité");
        self.identity(paper, person);
        paper.heading("Déclarations");
        for _ in 0..self.random.between(1, 3) {
            let text = format!("Je me présente à votre service sur votre convocation. {}", self.facts(4));
            paper.paragraph(&text);
        }
        let exchanges = self.random.between(8, 26);
        self.dialogue(paper, exchanges);
        self.close(paper, &[person.short()]);
    }

    fn custody(&mut self, paper: &mut Paper) {
        let person = pick(&self.case.suspects, self.who);
        let lawyer = pick(&self.case.lawyers, self.who).last.clone();
        self.police_head(paper, &format!("Audition en garde à vue : {}", person.full()));
        self.identity(paper, person);
        paper.heading("Notification des droits");
        paper.paragraph(&format!(
            "Rappelons à la personne gardée à vue qu'elle a le droit de faire prévenir un proche, d'être examinée par un \
             médecin, d'être assistée par un avocat, de faire des déclarations, de répondre aux questions ou de se taire. \
             Elle déclare avoir compris ces droits et demander l'assistance de Me {lawyer}, qui est présent à nos côtés."
        ));
        let exchanges = self.random.between(18, 40);
        self.dialogue(paper, exchanges);
        self.close(paper, &[person.short(), format!("Me {lawyer}")]);
    }

    fn search(&mut self, paper: &mut Paper) {
        let person = pick(&self.case.suspects, self.who);
        self.police_head(paper, &format!("Perquisition et saisie : {}", person.address));
        self.identity(paper, person);
        for room in ["Entrée et couloir", "Séjour", "Bureau", "Chambre", "Garage et dépendances"] {
            paper.heading(room);
            let text = format!("{} {}", self.random.choose(&OPENING), self.facts(2));
            paper.paragraph(&text);
        }
        paper.heading("Objets saisis et placés sous scellés");
        let first = self.random.between(1, 60);
        let rows: Vec<Vec<String>> = (first..first + self.random.between(6, 18))
            .map(|number| {
                vec![
                    format!("n° {number}"),
                    self.random.choose(&OBJECTS).to_owned(),
                    ["fermé", "ouvert"][(number % 2) as usize].to_owned(),
                ]
            })
            .collect();
        paper.table(&[0.0, 0.13, 0.86], &["Scellé", "Désignation", "Forme"], &rows);
        self.close(paper, &[person.short()]);
    }

    fn telephone(&mut self, paper: &mut Paper) {
        let person = pick(&self.case.suspects, self.who);
        self.police_head(paper, &format!("Exploitation de la ligne {}", person.telephone));
        paper.paragraph(&format!(
            "Vu la réponse de l'opérateur, exploitons les données de trafic de la ligne attribuée à {}. Seuls les contacts \
             utiles sont reproduits ; le fichier intégral est conservé sous scellé numérique.",
            person.full()
        ));
        let mut date = self.date;
        let correspondents: Vec<String> = (0..9).map(|_| telephone(&mut self.random)).collect();
        let (mut rows, mut minute) = (Vec::new(), 6 * 60);
        for _ in 0..self.random.between(120, 420) {
            minute += self.random.between(1, 140);
            if minute >= 23 * 60 {
                (date, minute) = (date.later(1), 6 * 60 + self.random.between(0, 90));
            }
            let nature = self.random.choose(&[
                "appel sortant",
                "appel entrant",
                "message reçu",
                "message émis",
                "données",
            ]);
            let lasting = if nature.starts_with("appel") {
                format!("{} s", self.random.between(3, 1900))
            } else {
                String::new()
            };
            rows.push(vec![
                date.numeric(),
                format!("{:02}:{:02}:{:02}", minute / 60, minute % 60, self.random.between(0, 59)),
                nature.to_owned(),
                correspondents[self.random.between(0, 8) as usize].clone(),
                lasting,
                self.random.choose(&PLACES).to_owned(),
            ]);
        }
        paper.table(
            &[0.0, 0.13, 0.25, 0.41, 0.6, 0.7],
            &["Date", "Heure", "Nature", "Correspondant", "Durée", "Cellule"],
            &rows,
        );
        self.close(paper, &[]);
    }

    fn bank(&mut self, paper: &mut Paper) {
        let holder = if self.who.is_multiple_of(2) {
            pick(&self.case.suspects, self.who).full()
        } else {
            self.case.company.to_owned()
        };
        let number = account(&mut self.random);
        paper.line("BANQUE FICTIVE DE L'EXEMPLE – service des réquisitions judiciaires", Face::Bold, 10.0);
        paper.space(8.0);
        paper.centred("RELEVÉ DE COMPTE", Face::Bold, 14.0);
        paper.paragraph(&format!("Titulaire : {holder}. Compte n° {number}. Relevé établi sur réquisition, les montants sont en euros."));
        let (mut date, mut cents) = (self.date, self.random.between(100_000, 4_000_000) as i64);
        let labels = [
            "VIREMENT REÇU",
            "VIREMENT ÉMIS",
            "CHÈQUE",
            "RETRAIT DISTRIBUTEUR",
            "CARTE – STATION-SERVICE",
            "PRÉLÈVEMENT ÉNERGIE",
            "REMISE D'ESPÈCES",
            "LOYER",
            "FRAIS",
        ];
        let mut rows = Vec::new();
        for _ in 0..self.random.between(60, 260) {
            date = date.later(self.random.between(0, 2) as u32);
            let label = self.random.choose(&labels);
            let credit = label.ends_with("REÇU") || label.starts_with("REMISE");
            let amount = self.random.between(900, if credit { 1_900_000 } else { 400_000 }) as i64;
            cents += if credit { amount } else { -amount };
            let money = euros(amount);
            rows.push(vec![
                date.numeric(),
                label.to_owned(),
                if credit { String::new() } else { money.clone() },
                if credit { money } else { String::new() },
                euros(cents),
            ]);
        }
        paper.table(&[0.0, 0.14, 0.52, 0.68, 0.84], &["Date", "Libellé", "Débit", "Crédit", "Solde"], &rows);
    }

    fn requisition(&mut self, paper: &mut Paper) {
        self.police_head(paper, "Réquisition à opérateur (art. 99-4 du code de procédure pénale)");
        paper.paragraph("Requérons toute personne qualifiée de l'opérateur fictif « Télécom Exemple » de procéder aux actes ci-après et de nous en transmettre le résultat par voie dématérialisée.");
        for _ in 0..self.random.between(4, 10) {
            let line = telephone(&mut self.random);
            let (from, to) = (
                self.date.later(self.random.between(0, 20) as u32),
                self.date.later(self.random.between(30, 90) as u32),
            );
            paper.indented(&format!("– Ligne {line} : identité du titulaire, moyens de paiement, données de trafic du {} au {}, adresses de facturation successives.", from.long(), to.long()), 14.0, Face::Roman);
        }
        paper.heading("Réponse");
        for _ in 0..self.random.between(2, 5) {
            let text = self.facts(3);
            paper.paragraph(&text);
        }
        self.close(paper, &[]);
    }

    fn confrontation(&mut self, paper: &mut Paper) {
        let (one, other) = (pick(&self.case.suspects, self.who), pick(&self.case.victims, self.who));
        self.court_head(paper, "PROCÈS-VERBAL DE CONFRONTATION");
        self.identity(paper, one);
        self.identity(paper, other);
        for _ in 0..self.random.between(10, 24) {
            let question = self.random.choose(&QUESTIONS);
            paper.paragraph(&format!("À {} et à {} : {question}", one.short(), other.short()));
            for person in [one, other] {
                let answer = format!(
                    "{} : {} {}",
                    person.short(),
                    self.random.choose(&ANSWERS),
                    self.random.choose(&ANSWERS)
                );
                paper.indented(&answer, 18.0, Face::Typewriter);
            }
        }
        let names = [self.case.judge.short(), self.case.clerk.short(), one.short(), other.short()];
        paper.signatures(&mut self.random, &names);
    }

    fn first_appearance(&mut self, paper: &mut Paper) {
        let person = pick(&self.case.suspects, self.who);
        self.court_head(paper, "PROCÈS-VERBAL DE PREMIÈRE COMPARUTION");
        paper.paragraph(&format!(
            "Le {}, devant nous, {}, assisté{} de {}, greffier, a comparu la personne ci-après dénommée.",
            self.date.long(),
            self.case.judge.full(),
            self.case.judge.e(),
            self.case.clerk.full()
        ));
        self.identity(paper, person);
        for _ in 0..self.random.between(2, 5) {
            let text = self.facts(5);
            paper.paragraph(&text);
        }
        let exchanges = self.random.between(6, 18);
        self.dialogue(paper, exchanges);
        paper.paragraph(&format!(
            "Notifions à {} qu'{} est mis{} en examen pour l'ensemble des faits exposés.",
            person.short(),
            if person.feminine() { "elle" } else { "il" },
            person.e()
        ));
        paper.signatures(
            &mut self.random,
            &[self.case.judge.short(), self.case.clerk.short(), person.short()],
        );
    }

    fn expert_order(&mut self, paper: &mut Paper) {
        self.court_head(paper, "ORDONNANCE DE COMMISSION D'EXPERT");
        paper.paragraph(&format!("Vu les articles 156 et suivants du code de procédure pénale ; attendu que l'exploitation des supports saisis exige des connaissances techniques ; commettons {}, expert inscrit sur la liste fictive de la cour d'appel, avec la mission suivante :", self.case.expert.full()));
        for (index, task) in [
            "prendre connaissance de la procédure, transmise par voie dématérialisée ;",
            "procéder à l'ouverture des scellés, en réaliser une copie intégrale et en vérifier l'empreinte ;",
            "rechercher tout document comptable, contrat, facture ou échange en rapport avec les faits, même effacé ;",
            "dater la création et la modification des fichiers utiles et dire si l'horloge du support paraît fiable ;",
            "dire si les documents présentés comme originaux ont été modifiés après leur signature ;",
            "reconstituer les scellés et faire toute observation utile à la manifestation de la vérité.",
        ].iter().enumerate() {
            paper.indented(&format!("{}. {task}", index + 1), 18.0, Face::Roman);
        }
        let due = self.date.later(self.random.between(60, 150) as u32);
        paper.paragraph(&format!(
            "Disons que l'expert déposera son rapport avant le {}, au greffe de notre cabinet.",
            due.long()
        ));
        paper.signatures(&mut self.random, &[self.case.judge.short()]);
    }

    fn expert_report(&mut self, paper: &mut Paper) {
        self.court_head(paper, "RAPPORT D'ÉTAPE DE L'EXPERT");
        paper.paragraph(&format!("{}, expert près la cour d'appel fictive, commis dans la présente information, rend compte de ses premières opérations.", self.case.expert.full()));
        for (number, part) in
            ["Rappel de la mission", "Scellés reçus", "Méthode", "Constatations", "Premières conclusions"]
                .iter()
                .enumerate()
        {
            paper.heading(&format!("{}. {part}", number + 1));
            for _ in 0..self.random.between(2, 5) {
                let text = self.facts(5);
                paper.paragraph(&text);
            }
            if *part == "Scellés reçus" {
                let rows: Vec<Vec<String>> = (1..=self.random.between(6, 14))
                    .map(|number| {
                        vec![
                            format!("n° {number}"),
                            self.random.choose(&OBJECTS).to_owned(),
                            format!("{:016x}…", self.random.next()),
                        ]
                    })
                    .collect();
                paper.table(&[0.0, 0.1, 0.76], &["Scellé", "Désignation", "Empreinte (début)"], &rows);
            }
        }
        paper.signatures(&mut self.random, &[self.case.expert.short()]);
    }

    fn personality(&mut self, paper: &mut Paper) {
        let person = pick(&self.case.suspects, self.who);
        self.court_head(paper, "ENQUÊTE DE PERSONNALITÉ");
        self.identity(paper, person);
        let e = person.e();
        for (part, text) in [
            ("Enfance et famille", format!("L'intéressé{e} décrit une enfance sans heurt à {}, dans une famille de trois enfants.", person.birthplace)),
            ("Scolarité et formation", "La scolarité a été suivie jusqu'à un diplôme professionnel, obtenu sans redoublement.".to_owned()),
            ("Parcours professionnel", format!("Profession déclarée : {}. Les employeurs joints décrivent une personne ponctuelle.", person.trade)),
            ("Santé", "Aucune difficulté particulière n'est signalée. L'entretien s'est déroulé dans de bonnes conditions.".to_owned()),
            ("Entourage", format!("Les proches rencontrés résident pour la plupart à {}.", self.random.choose(&PLACES))),
        ] {
            paper.heading(part);
            paper.paragraph(&text);
            for _ in 0..self.random.between(1, 3) {
                let answer = format!("« {} {} »", self.random.choose(&ANSWERS), self.random.choose(&ANSWERS));
                paper.indented(&answer, 18.0, Face::Italic);
            }
        }
        paper.signatures(&mut self.random, &["L'enquêteur de personnalité".to_owned()]);
    }

    fn supervision(&mut self, paper: &mut Paper) {
        let person = pick(&self.case.suspects, self.who);
        self.court_head(paper, "ORDONNANCE DE PLACEMENT SOUS CONTRÔLE JUDICIAIRE");
        self.identity(paper, person);
        paper.paragraph("Vu les articles 137 à 140 du code de procédure pénale ; attendu que les nécessités de l'instruction justifient les mesures qui suivent ; ordonnons le placement sous contrôle judiciaire, à charge pour la personne :");
        for duty in [
            "de ne pas sortir du territoire national ;",
            "de se présenter chaque semaine au service désigné ;",
            "de s'abstenir de rencontrer les autres personnes mises en examen et les plaignants, et d'entrer en relation avec elles de quelque façon que ce soit ;",
            "de remettre au greffe son passeport ;",
            "de ne pas gérer de société.",
        ] {
            paper.indented(&format!("– {duty}"), 18.0, Face::Roman);
        }
        paper.signatures(&mut self.random, &[self.case.judge.short(), person.short()]);
    }

    fn letter(&mut self, paper: &mut Paper) {
        let lawyer = pick(&self.case.lawyers, self.who);
        paper.line(&format!("Me {} {}", lawyer.first, lawyer.last), Face::Bold, 12.0);
        paper.line("Avocat au barreau fictif de Démonville", Face::Italic, 10.0);
        paper.line(&lawyer.address, Face::Roman, 10.0);
        paper.space(24.0);
        paper.line(&format!("{}, le {}", self.case.town, self.date.long()), Face::Roman, 11.0);
        paper.space(12.0);
        paper.paragraph(&format!("Monsieur ou Madame le juge d'instruction, dans l'information suivie sous le n° {}, j'ai l'honneur de solliciter, au nom de mon client, les actes suivants en application de l'article 82-1 du code de procédure pénale.", self.case.number));
        for _ in 0..self.random.between(3, 7) {
            let text = self.facts(3);
            paper.paragraph(&text);
        }
        paper.paragraph(
            "Je vous prie d'agréer, Monsieur ou Madame le juge, l'expression de ma considération distinguée.",
        );
        paper.signatures(&mut self.random, &[format!("Me {}", lawyer.last)]);
    }

    fn scanned(&mut self, cote: &str) -> Vec<String> {
        let person = pick(&self.case.witnesses, self.who);
        let mut lines = vec![
            format!("COTE {cote}                            DOCUMENT FICTIF - DÉMONSTRATION"),
            String::new(),
            self.case.service.to_uppercase(),
            format!(
                "Reçu le {} - enregistré sous le n° {}",
                self.date.long(),
                self.random.between(1000, 99_999)
            ),
            String::new(),
            "                       ATTESTATION ET PIÈCE JOINTE".to_owned(),
            String::new(),
            format!(
                "Je soussigné{} {}, né{} le {} à {}, demeurant {}, atteste sur l'honneur ce qui suit :",
                person.e(),
                person.full(),
                person.e(),
                person.born.long(),
                person.birthplace,
                person.address
            ),
            String::new(),
        ];
        for _ in 0..self.random.between(5, 16) {
            lines.push(self.facts(4));
            lines.push(String::new());
        }
        if !self.canary.is_empty() {
            lines.push(format!("Réf. {}", self.canary));
        }
        lines.push(format!("Fait à {}, le {}.", self.random.choose(&PLACES), self.date.long()));
        lines.push(String::new());
        lines.push(format!("                                        {}", person.short()));
        lines
    }
}

fn euros(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    let units = (cents.abs() / 100).to_string();
    let mut grouped = String::new();
    for (index, digit) in units.chars().enumerate() {
        if index > 0 && (units.len() - index).is_multiple_of(3) {
            grouped.push('\u{a0}');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped},{:02}", cents.abs() % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_in_france() {
        assert_eq!(euros(123_456_789), "1\u{a0}234\u{a0}567,89");
        assert_eq!(euros(-90_005), "-900,05");
        assert_eq!(euros(7), "0,07");
    }
}
